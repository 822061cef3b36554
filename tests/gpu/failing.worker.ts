/** The engine's worker on a device that is lost when the tests say so: its next graph fails as a lost device's does. */
import { workerData } from 'node:worker_threads';
import { InferenceSession } from 'onnxruntime-node';

type Original = (...parts: never[]) => Promise<object>;
type Method = (...parts: unknown[]) => Promise<object>;

const { lost }: { readonly lost: Int32Array } = workerData;
const create: Original = Reflect.get(InferenceSession, 'create');
const createFailing: Method = async (...parts) => {
  const session: object = await Reflect.apply(create, InferenceSession, parts);
  const run: Original = Reflect.get(session, 'run');
  const runOrFail: Method = async (...given) => {
    if (Atomics.compareExchange(lost, 0, 1, 0) === 1) throw new Error('Device lost.');
    return Reflect.apply(run, session, given);
  };
  Reflect.set(session, 'run', runOrFail);
  return session;
};
Reflect.set(InferenceSession, 'create', createFailing);

await import('../../src/engine/engine.worker.js');
