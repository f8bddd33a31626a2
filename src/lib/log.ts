import winston from 'winston';

/** What the parts of varve log with; each has a child logger that names it. */
export type Logger = Pick<winston.Logger, 'error' | 'warn' | 'info' | 'debug'>;

/** The daemon's logger, from which each part gets its own: `child({ part: NAME })`. */
export type RootLogger = winston.Logger;

export interface LogOptions {
  readonly level: 'error' | 'warn' | 'info' | 'debug';
  /** `auto`: text on a terminal, JSON elsewhere. */
  readonly format: 'auto' | 'json' | 'text';
}

const { combine, timestamp, json, printf } = winston.format;

const text = printf(({ timestamp: time, level, part, message, ...rest }) => {
  const details = Object.keys(rest).length === 0 ? '' : ` ${JSON.stringify(rest)}`;
  return `${String(time)} ${level} ${String(part ?? 'varve')}: ${String(message)}${details}`;
});

const allLevels = ['error', 'warn', 'info', 'debug'];

/**
 * The daemon's logger. It writes to standard error; `managed` only failures and warnings, and the rest to standard
 * output, since an engine logs as an error whatever its managed plugins write to standard error.
 */
export function createLogger({ level, format }: LogOptions, managed: boolean): RootLogger {
  // Whoever reads our messages may end before us, and be replaced.
  for (const stream of [process.stdout, process.stderr])
    stream.removeAllListeners('error').on('error', () => {});
  const asText = format === 'text' || (format === 'auto' && process.stderr.isTTY === true);
  return winston.createLogger({
    level,
    format: combine(timestamp(), asText ? text : json()),
    transports: [new winston.transports.Console({ stderrLevels: managed ? ['error', 'warn'] : allLevels })],
  });
}
