import { readFileSync } from 'node:fs'
import { PACKAGE } from './paths.ts'

/** The version of this installation. */
export function installedVersion(): string {
  return String((JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version?: unknown }).version)
}
