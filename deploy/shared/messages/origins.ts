/**
 * Which program instance sent which messages of a channel. Numbers alone do not say it: a program that goes on after an undone swap
 * gives the numbers after those of its successor, which it does not know, to messages of its own (CHANNEL 12.4).
 */

/** A message, by the instance that sent it and how many that one had sent with it. */
export interface Origin {
  readonly instance: string
  readonly nth: number
}

/** The messages from `number` on are those of the instance from its `nth` one on, up to the number of the next entry. */
export type Origins = readonly (readonly [number: number, instance: string, nth: number])[]

/** Instances that a laptop remembers. One more must be undone before the laptop is back, to give it a message twice. */
export const MAX_INSTANCES = 64

export function originsOf(first: number, messages: readonly Origin[]): Origins {
  return messages.flatMap(({ instance, nth }, at) => {
    const before = messages[at - 1]
    return before?.instance === instance && before.nth === nth - 1 ? [] : [[first + at, instance, nth] as const]
  })
}

/** Undefined for a number before all entries. */
export function originOf(origins: Origins, number: number): Origin | undefined {
  const entry = origins.findLast(([first]) => first <= number)
  return entry && { instance: entry[1], nth: entry[2] + number - entry[0] }
}

/** How many messages of each instance a laptop has, in the order of the last ones. */
export class Had {
  readonly #counts = new Map<string, number>()

  get counts(): [instance: string, count: number][] {
    return [...this.#counts]
  }

  /** The messages up to number `received` have come. */
  add(origins: Origins, received: number): void {
    for (const [at, [first]] of origins.entries()) {
      const last = Math.min(received, (origins[at + 1]?.[0] ?? Number.POSITIVE_INFINITY) - 1)
      const origin = last < first ? undefined : originOf(origins, last)
      if (origin === undefined) continue
      this.#counts.delete(origin.instance)
      this.#counts.set(origin.instance, origin.nth)
    }
    for (const [oldest] of this.counts.slice(0, -MAX_INSTANCES)) this.#counts.delete(oldest)
  }
}
