/** A shell script for a container: it writes a number a line, without end, and says so on its output when it cannot. */
export function writer(file: string): string {
  return `trap exit TERM; n=0; while :; do n=$((n+1)); echo $n >> ${file} || echo lost $n; usleep 5000; done`;
}

/** Whether what a {@link writer} wrote counts from 1 without a gap. */
export function isGapless(text: string): boolean {
  const lines = text.trimEnd().split('\n');
  return lines.length > 1 && lines.every((line, index) => line === String(index + 1));
}
