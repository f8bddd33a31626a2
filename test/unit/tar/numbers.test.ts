import { expect } from 'chai';
import fc from 'fast-check';
import {
  fitsOctal,
  formatTime,
  parseDecimal,
  parseTime,
  readNumber,
  writeOctal,
} from '../../../src/tar/numbers.ts';

function read(field: string | Buffer): number {
  const bytes = Buffer.from(field as string, 'latin1');
  return readNumber(bytes, 0, bytes.length, 'size');
}

/** The two's complement of `value` with the first bit set. */
function base256(value: bigint, length: number): Buffer {
  const digits = BigInt.asUintN(8 * length, value)
    .toString(16)
    .padStart(2 * length, '0');
  const field = Buffer.from(digits, 'hex');
  field[0] = (field[0] ?? 0) | 0x80;
  return field;
}

describe('a number in a header field', () => {
  for (const [field, value] of [
    ['0000644\0', 0o644],
    ['000644 \0', 0o644],
    ['   644 \0', 0o644],
    ['\0\0\0\0\0\0\0\0', 0],
    ['        ', 0],
    ['77777777', 0o77777777],
    ['777777777777', 0o777777777777],
    ['644\0junk', 0o644],
  ] as const) {
    it(`is octal: ${JSON.stringify(field)}`, () => expect(read(field)).to.equal(value));
  }

  it('is base-256 when its first bit is set, also negative', () => {
    const numbers = fc.maxSafeInteger();
    fc.assert(
      fc.property(numbers, fc.constantFrom(8, 12), (value, length) => {
        expect(read(base256(BigInt(value), length))).to.equal(value);
      }),
    );
  });

  for (const field of ['0000698\0', '-000644\0', 'hello\0\0\0', '64x']) {
    it(`is refused when it is none: ${JSON.stringify(field)}`, () => {
      expect(() => read(field)).to.throw('its size is not a number');
    });
  }

  for (const value of [2n ** 53n, 2n ** 63n, 2n ** 94n - 1n, -(2n ** 53n) - 1n, -(2n ** 63n)]) {
    it(`is refused when it cannot be held exactly: ${value}`, () => {
      expect(() => read(base256(value, 12))).to.throw('its size is too large');
    });
  }

  it('is written as what is read, or as the nearest that fits', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.constantFrom(8, 12), (value, length) => {
        const field = Buffer.alloc(length + 2, 'x');
        writeOctal(field, 1, length, value);
        const nearest = Math.max(0, Math.min(value, 8 ** (length - 1) - 1));
        expect(field.toString('latin1')).to.equal(`x${nearest.toString(8).padStart(length - 1, '0')}\0x`);
        expect(fitsOctal(length, value)).to.equal(value === nearest);
      }),
    );
  });
});

describe('a number in a PAX record', () => {
  it('is decimal digits', () => {
    expect(parseDecimal(Buffer.from('0042'), 'size')).to.equal(42);
    expect(parseDecimal(Buffer.from(String(Number.MAX_SAFE_INTEGER)), 'size')).to.equal(
      Number.MAX_SAFE_INTEGER,
    );
  });

  for (const text of ['', '-1', '+1', '1.5', ' 1', '1 ', '0x10', '1e3', '９']) {
    it(`is refused otherwise: ${JSON.stringify(text)}`, () => {
      expect(() => parseDecimal(Buffer.from(text), 'size')).to.throw('its size is not a number');
    });
  }

  for (const text of ['9007199254740992', '18446744073709551616', '9'.repeat(1000)]) {
    it(`is refused when it cannot be held exactly: ${text.slice(0, 20)}`, () => {
      expect(() => parseDecimal(Buffer.from(text), 'size')).to.throw('its size is too large');
    });
  }
});

describe('a time in a PAX record', () => {
  for (const [text, seconds, nanoseconds] of [
    ['0', 0, 0],
    ['1700000000', 1_700_000_000, 0],
    ['1700000000.', 1_700_000_000, 0],
    ['1.5', 1, 500_000_000],
    ['1.000000001', 1, 1],
    ['1.0000000019', 1, 1],
    ['-1', -1, 0],
    ['-1.5', -2, 500_000_000],
    ['-0.000000001', -1, 999_999_999],
    ['-0.0000000001', -1, 999_999_999],
    ['-1.9999999999', -2, 0],
    ['-0', 0, 0],
  ] as const) {
    it(`${text} is ${seconds} s and ${nanoseconds} ns`, () => {
      expect(parseTime(Buffer.from(text))).to.deep.equal({ seconds, nanoseconds });
    });
  }

  for (const text of ['', '.5', '1.5.5', '1,5', '+1', '1e9', '--1', '0x1', 'now', '1\0']) {
    it(`is refused when it is none: ${JSON.stringify(text)}`, () => {
      expect(() => parseTime(Buffer.from(text))).to.throw('its time is not a number');
    });
  }

  it('is refused when its seconds cannot be held exactly', () => {
    expect(() => parseTime(Buffer.from('9'.repeat(400)))).to.throw('its time is too large');
  });

  it('is written as what is read', () => {
    const nanoseconds = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 999_999_999 }));
    fc.assert(
      fc.property(fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), nanoseconds, (seconds, nanos) => {
        const time = { seconds, nanoseconds: nanos };
        expect(parseTime(Buffer.from(formatTime(time)))).to.deep.equal(time);
      }),
    );
  });

  it('is written without zeros that mean nothing', () => {
    expect(formatTime({ seconds: -2, nanoseconds: 500_000_000 })).to.equal('-1.5');
    expect(formatTime({ seconds: -1, nanoseconds: 999_999_990 })).to.equal('-0.00000001');
    expect(formatTime({ seconds: -1, nanoseconds: 0 })).to.equal('-1');
    expect(formatTime({ seconds: 1, nanoseconds: 0 })).to.equal('1');
  });
});
