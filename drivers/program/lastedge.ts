/**
 * What goes from a program to its successor of an input, beside its level: when that changed last (HANDLES 3.13).
 *
 * The symbol is the registry's: a bundle can have a copy of this file of its own.
 */
import type { Handle, LastEdge } from './handle.ts'

export const LAST_EDGE: unique symbol = Symbol.for('medulla.lastEdge')

/** The last edge that this program or one before it has heard of; null: there was none, or it is not known. */
export function lastEdge(input: Handle): LastEdge | null {
  return (input as { [LAST_EDGE]?: LastEdge | null })[LAST_EDGE] ?? null
}

/** Of a predecessor, or with what a device has counted. Handles that keep none ignore it. */
export function setLastEdge(input: Handle, edge: LastEdge): void {
  if (LAST_EDGE in input) (input as { [LAST_EDGE]: LastEdge | null })[LAST_EDGE] = edge
}
