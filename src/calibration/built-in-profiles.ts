/**
 * Profiles that come with the program, as `radixkv model calibrate` measured them: so that `auto` can blend on the
 * default model, imported with the default options, before anyone calibrates. Found by fingerprint like any other.
 */
export const BUILT_IN_PROFILES: readonly unknown[] = [];
