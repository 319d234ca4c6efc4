/** A wire from MOSI to MISO instead of a chip: each byte sent is received. */
import type { SpiChipModel } from './chip.ts'

interface Loopback {
  readonly transfers: number
}

export const loopback: SpiChipModel<Loopback> = {
  initial: { transfers: 0 },
  transfer: ({ transfers }, bytes) => ({ next: { transfers: transfers + 1 }, bytes: Uint8Array.from(bytes) }),
  snapshot: ({ transfers }) => ({ transfers }),
  poke: () => null,
}
