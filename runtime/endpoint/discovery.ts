/**
 * Reads what the network asks on the discovery socket, on which it cannot send (HANDOVER 8.24). Invariant: whatever is sent there,
 * at most {@link QUERY_ALLOWANCE} is read (CHANNEL 11.5; test/runtime/endpoint/discovery.test.ts).
 */
import { asksForRobots } from '../../deploy/shared/discovery.ts'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { type Allowance, Budget } from '../plumbing/budget.ts'

/** Packets and bytes; the kernel drops what is not read, at no cost for the robot. */
export const QUERY_ALLOWANCE: Allowance = { messagesPerSecond: 50, bytesPerSecond: 64 * 1024, burstSeconds: 2 }
/** Longer packets are cut, and dropped with that. */
const MAX_PACKET = 9000
const MSG_DONTWAIT = 0x40
/** While the allowance is used up, the socket is looked at no more often, in ms. */
const LEAST_REST_MS = 100

/** Calls `asked` for each packet that asks for robots. The returned function ends it. `read` is called for each packet. */
export function readQuestions(fd: number, asked: () => void, read: () => void = () => {}): () => void {
  const system = loadSystem()
  const recv = system.bind('recv', 'long', ['int', 'void*', 'size_t', 'int'])
  const budget = new Budget(QUERY_ALLOWANCE)
  const buffer = Buffer.alloc(MAX_PACKET)
  let unwatch = (): void => {}
  let rest: NodeJS.Timeout | undefined
  const watch = (): void => {
    unwatch = system.watch(fd, take)
  }
  const take = (): void => {
    for (;;) {
      const { waitMs } = budget
      if (waitMs > 0) {
        unwatch()
        rest = setTimeout(watch, Math.max(waitMs, LEAST_REST_MS))
        return
      }
      let length: number
      try {
        length = recv(fd, buffer, buffer.length, MSG_DONTWAIT)
      } catch {
        return // EAGAIN: nothing is left
      }
      budget.spend(1, length)
      read()
      if (asksForRobots(buffer.subarray(0, length))) asked()
    }
  }
  watch()
  return () => {
    clearTimeout(rest)
    unwatch()
  }
}
