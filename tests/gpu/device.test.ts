import { test } from 'node:test';
import { runGpuSuite } from '../support/gpu-suite.js';

test('the GPU as a device, on a software GPU', () => runGpuSuite('device'));
