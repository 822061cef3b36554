/** Opens a graph as a session of ONNX Runtime, the same way for all graphs of a model. */
import { InferenceSession } from 'onnxruntime-node';

/** What runs a graph whose inputs and outputs lie in host memory. */
export type Provider = 'cpu' | 'cuda';

/** @param options.spins whether the session's threads wait for work awake: quicker, but it takes the cores from others. */
export function openGraph(
  path: string,
  options: { readonly threads: number; readonly spins: boolean; readonly provider?: Provider },
): Promise<InferenceSession> {
  const { threads, spins, provider = 'cpu' } = options;
  return InferenceSession.create(path, {
    ...(provider === 'cuda' && { executionProviders: ['cuda', 'cpu'] }),
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    extra: { session: { intra_op: { allow_spinning: spins ? '1' : '0' } } },
  });
}
