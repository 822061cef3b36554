/** Opens a graph as a session of ONNX Runtime, the same way for all graphs of a model. */
import { InferenceSession } from 'onnxruntime-node';

/** @param options.spins whether the session's threads wait for work awake: quicker, but it takes the cores from others. */
export function openGraph(
  path: string,
  { threads, spins }: { readonly threads: number; readonly spins: boolean },
): Promise<InferenceSession> {
  return InferenceSession.create(path, {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    extra: { session: { intra_op: { allow_spinning: spins ? '1' : '0' } } },
  });
}
