/** Limits of every size that the maker of a bundle can choose (BUNDLE 1.4): sizes in bytes, others are counts. */
export const LIMITS = {
  /** a sealed bundle, by its Content-Length */
  bundle: 32 * 1024 * 1024,
  ageHeader: 64 * 1024,
  ageStanzas: 256,
  release: 64 * 1024,
  signature: 4096,
  /** compressed payload */
  payload: 31 * 1024 * 1024,
  unpacked: 128 * 1024 * 1024,
  manifest: 64 * 1024,
  /** program.mjs.map */
  sourceMap: 8 * 1024 * 1024,
  certificate: 8 * 1024,
  /** the text of an order: it may set all parameters of a program */
  order: 16 * 1024,
  /** the statement of a builder */
  buildStatement: 1024,
  files: 1024,
  /** bytes of a file name in a tar */
  name: 100,
  recipients: 256,
  arches: 16,
  needs: 64,
  rates: 64,
  params: 64,
  /** names of config values that a program needs */
  config: 32,
  /** one config value, in UTF-8 */
  configValue: 4096,
  /** one config value, sealed, in base64 */
  sealedConfig: 8 * 1024,
  /** config values that a robot keeps */
  configValues: 64,
  /** choices of one parameter */
  choices: 32,
  /** characters of a version, or of any other short text */
  text: 128,
  /** nesting of objects and lists in a JSON text */
  depth: 8,
} as const
