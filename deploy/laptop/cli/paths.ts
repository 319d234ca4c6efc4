/**
 * Paths of this installation's parts, relative to dist/deploy/laptop/cli/main.js: the build bundles the CLI into that one
 * file.
 */
import { fileURLToPath } from 'node:url'

const at = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url))

export const CLI = at('main.js')
export const RUNTIME = at('../../../runtime/main.js')
export const ROBOTS = at('../../../../robots/')
/** Only in a clone of the repository. */
export const RIG = at('../../../../test/kernel/rig.mjs')
export const PACKAGE = at('../../../../package.json')
