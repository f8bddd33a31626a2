import { repository } from './paths.ts';
import { run, tail } from './process.ts';

/** Each check is a program of node_modules/.bin with its arguments; all run, whatever an earlier one says. */
export const checks: readonly (readonly [name: string, ...command: [string, ...string[]]])[] = [
  ['types', 'tsc', '--noEmit'],
  ['format and lint', 'biome', 'ci', '--error-on-warnings', '--colors=off'],
  [
    'lint with types',
    'eslint',
    '--max-warnings',
    '0',
    '--no-error-on-unmatched-pattern',
    'src',
    'test',
    'bench',
    'scripts',
    'plugin',
  ],
  ['import arrows', 'depcruise', '--config', '.dependency-cruiser.cjs', 'src'],
  ['dead files and exports', 'knip'],
];

/** Runs one program with its output shown only when it fails. @returns why it failed */
export async function check(command: string, args: readonly string[]): Promise<string | undefined> {
  const result = await run(command, args, { cwd: repository, timeoutMs: 10 * 60_000 });
  if (result.exitCode === 0) return undefined;
  return `${[command, ...args].join(' ')} ended with exit code ${result.exitCode}\n${tail(result.stdout + result.stderr, 100)}`;
}
