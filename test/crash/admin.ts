import { AssertionError } from 'chai';
import { ask } from '../../scripts/lib/http.ts';
import type { TestDaemon } from '../support/daemon.ts';

/** One request to the admin socket. @throws AssertionError with what it answered, unless it succeeded */
export async function admin<T>(daemon: TestDaemon, method: string, path: string): Promise<T> {
  const { status, body } = await ask(daemon.adminSocket, method, path, { timeoutMs: 20_000 });
  if (status >= 400) throw new AssertionError(`${method} ${path}: ${status} ${body}`);
  return (body === '' ? undefined : JSON.parse(body)) as T;
}
