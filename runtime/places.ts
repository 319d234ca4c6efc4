/** Invariant: the runtime finds its own files also when it was bundled, where code no longer lies in its own folder. */
import { fileURLToPath } from 'node:url'

const HERE = import.meta.url
const ROOT = HERE.slice(0, HERE.lastIndexOf('/runtime/') + '/runtime/'.length)

/** `sdk/loader.js` and the like, below runtime/. */
export const runtimeUrl = (name: string): URL => new URL(name, ROOT)
export const runtimePath = (name: string): string => fileURLToPath(runtimeUrl(name))
