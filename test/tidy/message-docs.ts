/** Compares a page that quotes messages with those that the sources show. */
import type { Message } from './messages.ts';

/** What the docs put for a value: `NAME`, `"NAME"` or `<words>`. */
const value = '"?(?:[A-Z][A-Z0-9_:.]*|<[^>]+>)"?';

/** The messages that a page quotes: what stands in double backticks, which nothing else does. */
export function documented(page: string): readonly string[] {
  return [...page.matchAll(/(?<!`)``(?!`)(.+?)(?<!`)``(?!`)/gs)].map(([, text = '']) =>
    text.replace(/\s+/g, ' ').trim(),
  );
}

/** The messages that the docs do not have, as `PATH:LINE TEXT`. */
export function undocumented(messages: readonly Message[], docs: readonly string[]): readonly string[] {
  const missing = messages.filter(says).filter(message => !docs.some(text => patternOf(message).test(text)));
  return missing.map(({ where, texts }) => `${where} ${texts.join('<…>')}`);
}

/** The lines of the docs that no source says. */
export function unknown(messages: readonly Message[], docs: readonly string[]): readonly string[] {
  const patterns = messages.filter(says).map(patternOf);
  return docs.filter(text => !patterns.some(pattern => pattern.test(text)));
}

/** One that has a word or none of its own only passes on another one. */
function says({ texts }: Message): boolean {
  return (texts.join(' ').match(/[A-Za-z]{2,}/g) ?? []).length >= 2;
}

function patternOf({ texts, isPart }: Message): RegExp {
  const fixed = texts.map(text => text.replace(/\s+/g, ' ').replace(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`));
  const pattern = fixed.join(isPart ? '.+' : value).trim();
  return new RegExp(isPart ? pattern : `^${pattern}$`);
}
