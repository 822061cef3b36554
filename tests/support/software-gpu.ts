/** The Vulkan driver that Chromium brings along, which computes on the CPU: a GPU for tests where there is none. */
import assert from 'node:assert/strict';
import { existsSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

const DRIVER = 'vk_swiftshader_icd.json';
const PLACES = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/opt/google/chrome'];

/**
 * What a process needs to find the driver; it must be there when the process starts. With `RADIXKV_TEST_GPU` set to
 * `native` the machine's own GPU is taken.
 */
export function gpuEnvironment(): NodeJS.ProcessEnv {
  // The runner's variable would make the child report to it.
  const { NODE_TEST_CONTEXT: _runner, ...environment } = process.env;
  if (environment.RADIXKV_TEST_GPU === 'native') return environment;
  const place = driverPlace();
  assert(place !== undefined, `no ${DRIVER}: install Chromium`);
  return { ...environment, VK_ICD_FILENAMES: join(place, DRIVER), LD_LIBRARY_PATH: place };
}

function driverPlace(): string | undefined {
  const browser = process.env.CHROMIUM;
  const places = browser === undefined ? PLACES : [dirname(realpathSync(browser)), ...PLACES];
  return places.find((path) => existsSync(join(path, DRIVER)));
}

/** Why tests of a GPU can't run here; false: they can. */
export function whyNoGpu(): string | false {
  const isThere = process.env.RADIXKV_TEST_GPU === 'native' || driverPlace() !== undefined;
  return !isThere && `no ${DRIVER}, which Chromium brings along`;
}
