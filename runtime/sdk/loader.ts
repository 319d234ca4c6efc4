/**
 * The first file of every program's process. It belongs to the runtime, not to the bundle.
 *
 * It installs the effects gate (HANDOVER 13.1), then reads from descriptor 3: at `sandbox` it confines itself; at `init` it
 * hands the host object to the SDK and imports the program (HANDOVER 3.7).
 */
import type { EventEmitter } from 'node:events'
import { readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { pathToFileURL } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { LineSplitter } from '../../deploy/shared/linesplitter.ts'
import { type Explained, explain, placeMapper, thrownBy } from '../../deploy/shared/stack.ts'
import { needsSystem } from '../../drivers/program/inherit/needs.ts'
import { ProgramChannels } from '../messages/programchannels.ts'
import { socketTransport } from '../messages/transport.ts'
import { mapConsole } from './consoleplaces.ts'
import { installGate } from './effects.ts'
import { Gate } from './gate.ts'
import type { Host } from './host.ts'
import { Sockets } from './sockets.ts'
import {
  FD,
  type FromProgram,
  type Init,
  type InitMessage,
  MAX_LINE,
  MAX_LOG_TEXT,
  type SandboxMessage,
  type ToProgram,
} from './wire.ts'

const control = new Socket({ fd: FD.control, readable: true, writable: true })
// without a body nothing could stop this program (HANDOVER 9.5)
control.on('close', () => process.exit(1))
control.on('error', () => process.exit(1))

const send = (message: FromProgram): void => {
  control.write(`${JSON.stringify(message)}\n`)
}

// SIGINT makes Node print the stack of a program that hangs (HANDOVER 4.11): a listener of the program would catch it instead
const events: EventEmitter = process
for (const hear of events.listeners('newListener') as ((...args: unknown[]) => void)[]) {
  events.off('newListener', hear)
  events.on('newListener', (name, listener) => name !== 'SIGINT' && hear(name, listener))
}
// the author's own frame may lie below many frames of a package
Error.stackTraceLimit = 30
const mapPlaces = placeMapper(sourceMap)
mapConsole(mapPlaces)
const gate = new Gate('loading')
installGate(gate, FD.firstGrant)
const sockets = new Sockets(gate)
let uncaught: (error: unknown) => void = fail
// an exception that a rehearsal caused does not count, however late it comes (HANDOVER 13.4)
process.on('uncaughtException', (error) => {
  if (gate.round === undefined) uncaught(error)
})
process.on('unhandledRejection', (reason) => {
  // a listener besides this one means that the program handles rejections itself
  if (gate.round === undefined && process.listenerCount('unhandledRejection') === 1) uncaught(reason)
})

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

type Entered = Pick<Init, 'grants' | 'confine' | 'channels'> & Pick<Host, 'system'>
let entered: Promise<Entered> | null = null
const config: Record<string, string> = {}
let programFile = ''
let queue: ToProgram[] = []
let hear: ((message: ToProgram) => void) | null = null
const splitter = new LineSplitter()
control.setEncoding('utf8')
control.on('data', (text: string) => {
  const lines = splitter.push(text)
  if (splitter.rest.length > MAX_LINE) process.exit(1)
  for (const line of lines) {
    const message = JSON.parse(line) as ToProgram
    if (message.t === 'sandbox') {
      entered = enter(message)
      entered.catch(fail)
    } else if (message.t === 'config') config[message.name] = message.value
    else if (message.t === 'init') void load(message)
    else if (hear === null) queue.push(message)
    else hear(message)
  }
})

/** Confines this process before any program is imported (HANDLES 13.7). */
async function enter({ grants, confine, channels }: SandboxMessage): Promise<Entered> {
  // loading koffi costs 4 ms and 4 MB, so it is loaded only when a grant needs ioctl(2)
  const system = needsSystem(grants) ? (await import('../../drivers/owner/linux/system.ts')).loadSystem() : null
  // the next program runs as another user of the same group, and must be able to write the data folder
  if (confine !== null) process.umask(0o007)
  if (confine !== null) (await import('./confined.ts')).confineSelf({ grants, confine })
  send({ t: 'waiting' })
  return { grants, confine, system, ...(channels !== undefined && { channels }) }
}

async function load(message: InitMessage): Promise<void> {
  try {
    if (entered === null) throw new Error('expected the message sandbox before init')
    const { system, ...given } = await entered
    const init: Init = { ...message, ...given, config }
    const transport = init.channels === undefined ? null : socketTransport(init.channels)
    const channels = new ProgramChannels(gate, transport, (text) => send({ t: 'log', level: 'warn', text }))
    const host: Host = {
      init,
      system,
      places: {
        outbox: FD.outbox,
        inbox: FD.inbox,
        predecessor: FD.predecessor,
        scratch: FD.scratch,
        handoverOut: { fd: FD.handoverOut, position: null },
        handoverIn: { fd: FD.handoverIn, position: null },
      },
      send: (message) => send(message.t === 'log' ? { ...message, text: cut(mapPlaces(message.text)) } : message),
      collect,
      gate,
      sockets: {
        add: (...args) => sockets.add(...args),
        accept: () => sockets.accept(),
        forget: () => sockets.forget(),
        drain: (ms, ends, done) => {
          const flushed = channels.flush(ms)
          sockets.drain(ms, flushed === null ? ends : Promise.all([ends, flushed]).then(() => {}), done)
        },
      },
      channels,
      enter: (place) => gate.aside(() => send({ t: 'enter', place })),
      explain: explained,
      onUncaught: (caught) => {
        uncaught = caught
      },
      exit: (status) => process.exit(status),
      listen(onMessage) {
        hear = onMessage
        const early = queue
        queue = []
        for (const message of early) onMessage(message)
      },
    }
    ;(globalThis as { [key: symbol]: unknown })[Symbol.for('medulla.host')] = host
    programFile = init.file
    await gate.loading(import(pathToFileURL(init.file).href))
  } catch (error) {
    fail(error)
  }
}

/** A path of the author may be longer than that of the bundle, and the body ends a program that sends a longer text (HANDOVER 3.2). */
const cut = (text: string): string => text.slice(0, MAX_LOG_TEXT)

/** Maps an error's places to the author's files by the bundle's source map, if it has one. */
function explained(error: unknown): Explained {
  return explain(thrownBy(error), (file) =>
    programFile !== '' && file.endsWith('/program.mjs') ? sourceMap() : undefined,
  )
}

function sourceMap(): string | null {
  try {
    return readFileSync(`${programFile}.map`, 'utf8')
  } catch {
    return null
  }
}

function fail(error: unknown): never {
  const { text, stack } = explained(error)
  send({ t: 'fatal', code: 'died-at-start', message: text, ...(stack === text ? {} : { stack: stack.slice(0, 4096) }) })
  process.exit(1)
}
