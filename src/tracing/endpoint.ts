/** Where traces go to, if anywhere: what the options say, else what OpenTelemetry's own variables say. */
import { RadixkvError } from '../errors.js';

/** Below the base address of a collector. */
const TRACES_PATH = 'v1/traces';

/**
 * The URL that traces are posted to; undefined: there is no tracing.
 *
 * @param base of `--otlp-endpoint`; it wins over all variables
 * @throws RadixkvError `invalid_value`, naming a variable that holds no URL
 */
export function tracesUrl(
  base: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined {
  if (base !== undefined) return below(base);
  const { OTEL_SDK_DISABLED: disabled, OTEL_TRACES_EXPORTER: exporter } = environment;
  if (disabled?.toLowerCase() === 'true' || exporter === 'none') return undefined;
  const own = checked('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', environment);
  if (own !== undefined) return own;
  const shared = checked('OTEL_EXPORTER_OTLP_ENDPOINT', environment);
  return shared === undefined ? undefined : below(shared);
}

function below(base: string): string {
  const url = new URL(base);
  url.pathname = `${url.pathname.replace(/\/$/, '')}/${TRACES_PATH}`;
  return url.href;
}

/** An empty variable is none, as OpenTelemetry has it. */
function checked(variable: string, environment: Readonly<Record<string, string | undefined>>) {
  const text = environment[variable]?.trim();
  if (text === undefined || text === '') return undefined;
  if (/^https?:\/\//.test(text) && URL.canParse(text)) return text;
  throw new RadixkvError('invalid_value', `${variable} must be an http or https URL`, { param: variable });
}
