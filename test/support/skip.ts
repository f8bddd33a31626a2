import type { Context, Runnable } from 'mocha';

const reasons = new WeakMap<object, string>();

/**
 * Skips the running test, or from a hook the whole suite, and says why: a skip without a reason fails the run.
 * `scripts/test --ci` takes no skip at all, except of the lanes that it names.
 */
export function skip(context: Context, reason: string): never {
  const runnable = (context.test ?? context.currentTest) as Runnable & { readonly type?: string };
  const subject = runnable.type === 'hook' ? runnable.parent : runnable;
  if (subject !== undefined) reasons.set(subject, reason);
  console.warn(`skipped: ${runnable.fullTitle()}: ${reason}`);
  context.skip();
  throw new Error('unreachable');
}

/** The reason given for a test, or for a suite that it is in. */
export function skipReason(test: Runnable): string | undefined {
  for (let subject: { readonly parent?: object | undefined } | undefined = test; subject !== undefined; ) {
    const reason = reasons.get(subject);
    if (reason !== undefined) return reason;
    subject = subject.parent as typeof subject;
  }
  return undefined;
}
