/** A remote link that keeps its values in memory, of which any command can be told to fail or to hang. */
import {
  type ConnectRemote,
  RemoteError,
  type RemoteErrorKind,
  type RemoteLink,
} from '../../storage/remote/remote-link.js';

type Command = keyof Omit<RemoteLink, 'destroy'>;

export class MemoryRemote {
  readonly values = new Map<string, Buffer>();
  readonly hashes = new Map<string, Map<string, number>>();
  /** Commands, in the order they came. */
  readonly asked: Command[] = [];
  /** What commands, and connecting, answer. */
  readonly fails = new Map<Command | 'connect', RemoteErrorKind | 'never'>();
  connections = 0;
  lose: () => void = () => {};

  readonly connect: ConnectRemote = async ({ onLost }) => {
    await this.#answer('connect');
    this.connections++;
    this.lose = onLost;
    const ended = new AbortController();
    const ask = async <T>(command: Command, reply: () => T): Promise<T> => {
      this.asked.push(command);
      await this.#answer(command, ended.signal);
      return reply();
    };
    return {
      present: (keys) => ask('present', () => keys.map((key) => this.values.has(key))),
      get: (key) => ask('get', () => this.values.get(key)),
      set: (key, value) => ask('set', () => void this.values.set(key, Buffer.from(value))),
      unlink: (keys) =>
        ask('unlink', () => {
          for (const key of keys) this.values.delete(key);
        }),
      numbers: (key) => ask('numbers', () => new Map(this.hashes.get(key))),
      add: (key, field, by) =>
        ask('add', () => {
          const hash = this.hashes.get(key) ?? new Map<string, number>();
          this.hashes.set(key, hash);
          const sum = (hash.get(field) ?? 0) + by;
          hash.set(field, sum);
          return sum;
        }),
      dropNumbers: (key, fields) =>
        ask('dropNumbers', () => {
          for (const field of fields) this.hashes.get(key)?.delete(field);
        }),
      destroy: () => ended.abort(),
    };
  };

  async #answer(command: Command | 'connect', ended?: AbortSignal): Promise<void> {
    const kind = this.fails.get(command);
    if (kind === undefined) return;
    if (kind !== 'never') throw new RemoteError(kind);
    await new Promise<void>((_, reject) => {
      ended?.addEventListener('abort', () => reject(new RemoteError('disconnected')));
    });
  }
}
