/** The variables of the environment that are ours: one that means nothing is a mistake, and is refused by its name. */
import { RadixkvError } from '../errors.js';
import { suggestion } from './nearest-name.js';
import { SERVE_OPTION_ROWS } from './options.js';

const PREFIX = 'RADIXKV_';

/** Variables that are not options: the configuration file, what must not stand in one, and debugging. */
const OTHER_VARIABLES = ['RADIXKV_CONFIG', 'RADIXKV_API_KEY', 'RADIXKV_DISK_KEY', 'RADIXKV_DEBUG'];

/** What Kubernetes tells every pod of a service that is named `radixkv…`. */
const SERVICE_LINK = /^RADIXKV_(.+_)?(SERVICE_(HOST|PORT)(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)$/;
const LINK_ADDRESS = /^(tcp|udp|sctp):\/\//;

type Environment = Readonly<Record<string, string | undefined>>;

/** Whether the value is Kubernetes' and not meant for the option of that name, as `RADIXKV_PORT=tcp://10.0.0.1:80` is. */
export function isServiceLink(variable: string, value: string | undefined): boolean {
  return SERVICE_LINK.test(variable) && LINK_ADDRESS.test(value ?? '');
}

/** @throws RadixkvError `invalid_value`, naming a variable that begins with `RADIXKV_` and means nothing. */
export function refuseUnknownVariables(environment: Environment): void {
  const known = [...SERVE_OPTION_ROWS.map((row) => row.environment), ...OTHER_VARIABLES];
  for (const variable of Object.keys(environment)) {
    if (!variable.startsWith(PREFIX) || known.includes(variable) || SERVICE_LINK.test(variable)) continue;
    throw new RadixkvError(
      'invalid_value',
      `${variable} in the environment means nothing${suggestion(variable, known)}`,
      { param: variable },
    );
  }
}
