/** Finds the runtime's own files, also in the bundled build, where a module's code is no longer in the module's folder. */
import { fileURLToPath } from 'node:url'

const HERE = import.meta.url
const ROOT = HERE.slice(0, HERE.lastIndexOf('/runtime/') + '/runtime/'.length)

/** `name` is a path below runtime/, like `sdk/loader.js`. */
export const runtimeUrl = (name: string): URL => new URL(name, ROOT)
export const runtimePath = (name: string): string => fileURLToPath(runtimeUrl(name))
