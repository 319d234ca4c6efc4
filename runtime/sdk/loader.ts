/**
 * Invariant: the loader is the runtime's own file, never the bundle's; nothing of a program runs before it is done.
 *
 * It reads one `init` line from descriptor 3, provides the host object to the SDK, and imports the program.
 */
import { Socket } from 'node:net'
import { pathToFileURL } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { needsSystem } from '../../drivers/inherit/needs.ts'
import type { Host } from './program.ts'
import { FD, type FromProgram, type Init, MAX_LINE, type ToProgram } from './wire.ts'

const control = new Socket({ fd: FD.control, readable: true, writable: true })
// the body is gone: nothing will ever say stop (HANDOVER 9.5)
control.on('close', () => process.exit(1))
control.on('error', () => process.exit(1))

const send = (message: FromProgram): void => {
  control.write(`${JSON.stringify(message)}\n`)
}

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

let queue: ToProgram[] = []
let hear: ((message: ToProgram) => void) | null = null
let rest = ''
control.setEncoding('utf8')
control.on('data', (text: string) => {
  const lines = (rest + text).split('\n')
  rest = lines.pop() ?? ''
  if (rest.length > MAX_LINE) process.exit(1)
  for (const line of lines) {
    const message = JSON.parse(line) as ToProgram
    if (message.t === 'init') void load(message)
    else if (hear === null) queue.push(message)
    else hear(message)
  }
})

async function load(init: Init): Promise<void> {
  try {
    const host: Host = {
      init,
      // koffi is native, and costs 4 ms and 4 MB: only where a grant is used by ioctl
      system: needsSystem(init.grants) ? (await import('../../drivers/linux/system.ts')).loadSystem() : null,
      places: {
        outbox: FD.outbox,
        inbox: FD.inbox,
        predecessor: FD.predecessor,
        scratch: FD.scratch,
        handoverOut: { fd: FD.handoverOut, position: null },
        handoverIn: { fd: FD.handoverIn, position: null },
      },
      send,
      collect,
      onUncaught: (caught) => process.on('uncaughtException', caught),
      exit: (status) => process.exit(status),
      listen(onMessage) {
        hear = onMessage
        const early = queue
        queue = []
        for (const message of early) onMessage(message)
      },
    }
    ;(globalThis as { [key: symbol]: unknown })[Symbol.for('medulla.host')] = host
    // HANDLES 13.7
    if (init.confine !== null) (await import('./confined.ts')).confineSelf(init)
    await import(pathToFileURL(init.file).href)
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    send({ t: 'fatal', code: 'died-at-start', message: message.slice(0, 4096) })
    process.exit(1)
  }
}
