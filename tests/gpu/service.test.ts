import { test } from 'node:test';
import { runGpuSuite } from '../support/gpu-suite.js';
import { whyNoGpu } from '../support/software-gpu.js';

test('the service with a GPU as its device tier, on a software GPU', { skip: whyNoGpu() }, () =>
  runGpuSuite('service'),
);
