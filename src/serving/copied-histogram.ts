/** A histogram of Prometheus whose counts somebody else keeps: they are read when it is scraped. */
import { Histogram, type HistogramConfiguration } from 'prom-client';
import { type HistogramReading, observed } from '../histogram.js';

/** The name of the label, and each of its values with what is known of it now. */
export type CopiedFrom = [label: string, read: () => readonly (readonly [string, HistogramReading])[]];

export class CopiedHistogram extends Histogram {
  readonly #from: CopiedFrom;
  readonly #config: Pick<HistogramConfiguration<string>, 'name' | 'help'>;

  constructor(config: Omit<HistogramConfiguration<string>, 'labelNames'>, ...from: CopiedFrom) {
    super({ ...config, labelNames: [from[0]] });
    this.#config = config;
    this.#from = from;
  }

  override async get(): ReturnType<Histogram['get']> {
    const { name, help } = this.#config;
    const [label, read] = this.#from;
    const values = read().flatMap(([value, reading]) => {
      const labels = { [label]: value };
      let below = 0;
      const buckets = reading.counts.map((count, i) => {
        below += count;
        const le = reading.bounds[i] ?? '+Inf';
        return { metricName: `${name}_bucket`, exemplar: null, labels: { ...labels, le }, value: below };
      });
      return [
        ...buckets,
        { metricName: `${name}_sum`, labels, value: reading.sum },
        { metricName: `${name}_count`, labels, value: observed(reading) },
      ];
    });
    return { ...(await super.get()), name, help, values };
  }
}
