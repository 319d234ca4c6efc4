/**
 * The last edge of an input, which a program hands over to its successor (HANDLES 3.13).
 *
 * The symbol is from the global registry, since a bundle may contain its own copy of this file.
 */
import type { Handle, LastEdge } from './handle.ts'

export const LAST_EDGE: unique symbol = Symbol.for('medulla.lastEdge')

/** The last edge that this program or a predecessor received; null: none, or unknown. */
export function lastEdge(input: Handle): LastEdge | null {
  return (input as { [LAST_EDGE]?: LastEdge | null })[LAST_EDGE] ?? null
}

/** Sets the last edge: that of a predecessor, or one with a new `counted`. Other kinds of handles ignore it. */
export function setLastEdge(input: Handle, edge: LastEdge): void {
  if (LAST_EDGE in input) (input as { [LAST_EDGE]: LastEdge | null })[LAST_EDGE] = edge
}
