import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { must } from '../../scripts/lib/process.ts';

/** PEM files of a certificate, its key, and the authority that signed it. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
}

const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate authority for tests, in files `NAME*.pem` of a directory. */
export async function makeAuthority(directory: string, name: string) {
  const file = (what: string) => join(directory, `${name}-${what}.pem`);
  const [caFile, caKey] = [file('ca'), file('ca-key')];
  const self = ['-x509', '-days', '2', '-subj', `/CN=${name}`, '-keyout', caKey, '-out', caFile];
  await must('openssl', ['req', ...key, ...self]);

  /** @param extensions lines as in openssl's x509v3_config(5) */
  const sign = async (who: string, ...extensions: readonly string[]): Promise<Certificate> => {
    const [certFile, keyFile, request] = [file(who), file(`${who}-key`), file(`${who}-request`)];
    const settings = file(`${who}-extensions`);
    await writeFile(settings, `${extensions.join('\n')}\n`);
    await must('openssl', ['req', ...key, '-subj', `/CN=${who}`, '-keyout', keyFile, '-out', request]);
    const authority = ['-CA', caFile, '-CAkey', caKey, '-CAcreateserial', '-days', '2', '-extfile', settings];
    await must('openssl', ['x509', '-req', '-in', request, ...authority, '-out', certFile]);
    return { certFile, keyFile, caFile };
  };
  return {
    caFile,
    server: (who: string) => sign(who, 'subjectAltName=IP:127.0.0.1', 'extendedKeyUsage=serverAuth'),
    client: (who: string) => sign(who, 'extendedKeyUsage=clientAuth'),
  };
}
