// Runs in the build of the image: what V8 compiles for a start of the daemon is kept for the starts to come.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { setTimeout as pause } from 'node:timers/promises';

const varve = '/usr/lib/varve/dist/cli/varve.js';
const scratch = '/tmp/varve-warm-up';
const socket = '/run/docker/plugins/varve.sock';
const env = {
  ...process.env,
  NODE_COMPILE_CACHE: '/usr/lib/varve/cache',
  VARVE_ROOT: scratch,
  VARVE_RUN: `${scratch}/run`,
  VARVE_MOUNT_POINTS: `${scratch}/mnt`,
  VARVE_MANAGED: 'true',
  VARVE_ENGINE: 'none',
};

/** What an engine asks in its first minutes. */
const calls: readonly (readonly [method: string, body: object])[] = [
  ['Capabilities', {}],
  ['Get', { Name: 'v' }],
  ['Create', { Name: 'v', Opts: {} }],
  ['Get', { Name: 'v' }],
  ['List', {}],
];

function start(...args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [varve, ...args], { env, stdio: ['ignore', 'inherit', 'inherit'] });
}

async function call(method: string, body: object): Promise<void> {
  const sent = request({ socketPath: socket, path: `/VolumeDriver.${method}`, method: 'POST' });
  sent.end(JSON.stringify(body));
  const [response] = await once(sent, 'response');
  await once(response.resume(), 'end');
}

const daemon = start('daemon');
const ended = once(daemon, 'exit');
while (!existsSync(socket)) {
  if (daemon.exitCode !== null || daemon.signalCode !== null)
    throw new Error(`the daemon ended with ${daemon.exitCode ?? daemon.signalCode} before it served`);
  await pause(20);
}
for (const [method, body] of calls) await call(method, body);
const [listed] = await once(start('volume', 'ls'), 'exit');
daemon.kill('SIGTERM');
const [stopped] = await ended;
if (listed !== 0 || stopped !== 0) throw new Error('the daemon did not run through');
rmSync(scratch, { recursive: true });
rmSync(socket, { force: true });
