import { DeadlineExceeded } from '../errors/errors.ts';

/**
 * What `act` gives, if it gives it within `ms` milliseconds. What it does goes on after that, unobserved: only for
 * acts that leave nothing behind.
 * @throws DeadlineExceeded with the message
 */
export async function within<T>(ms: number, message: string, act: () => Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new DeadlineExceeded(message)), ms);
  try {
    return await Promise.race([act(), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
