/** The PEM files that the remote tier is reached with. */
import type { TlsFiles } from '#storage';
import { readOptionFile } from './option-file.js';
import type { ServeOptions } from './options.js';

/** @throws RadixkvError `invalid_value` for a file that can't be read */
export async function remoteTls(
  options: Pick<ServeOptions, 'remoteCaFile' | 'remoteCertFile' | 'remoteCertKeyFile'>,
): Promise<TlsFiles> {
  return {
    ca: await pem('--remote-ca-file', options.remoteCaFile),
    cert: await pem('--remote-cert-file', options.remoteCertFile),
    key: await pem('--remote-cert-key-file', options.remoteCertKeyFile),
  };
}

async function pem(flag: string, file: string | undefined): Promise<string | undefined> {
  return file === undefined ? undefined : readOptionFile(flag, file);
}
