# The root filesystem of the managed plugin, and the image to run varve as a container. `npm run plugin -- build`
# makes its context: the directories program/ and image/, and bin/ with a Node for a base that has none.

ARG BASE=node:24-bookworm-slim
FROM ${BASE} AS collected
ENV PATH=/build/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN for program in mkfs.ext4 mkfs.xfs mkfs.btrfs; do command -v "$program" || missing=yes; done; \
    [ -z "$missing" ] || { apt-get update && apt-get install -y --no-install-recommends e2fsprogs xfsprogs btrfs-progs; }
COPY . /build
RUN mv /build/program /usr/lib/varve && node /build/image/warm-up.ts && node /build/image/collect.ts /collected

FROM scratch
COPY --from=collected /collected /
ENV NODE_COMPILE_CACHE=/usr/lib/varve/cache
ENTRYPOINT ["/usr/bin/node", "/usr/lib/varve/dist/cli/varve.js"]
CMD ["daemon"]
