import { test } from 'node:test';
import { runGpuSuite } from '../support/gpu-suite.js';
import { whyNoGpu } from '../support/software-gpu.js';

test('the GPU as a device, on a software GPU', { skip: whyNoGpu() }, () => runGpuSuite('device'));
