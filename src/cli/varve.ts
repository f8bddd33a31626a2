#!/usr/bin/env node
// Only this file may run on any Node: everything else is imported after the check.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 22 || (major === 22 && minor < 15)) {
  process.stderr.write(
    `varve: Node.js ${process.versions.node} is too old; varve needs 22.15 or newer, so put one first in PATH\n`,
  );
  process.exitCode = 2;
} else {
  const { run } = await import('./program.ts');
  await run(process.argv);
}

export {};
