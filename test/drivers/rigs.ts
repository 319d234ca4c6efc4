/** The kinds of handles that the contract suite tests. Each rig is the owner's side of one child. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseBoard } from '../../drivers/board/board.ts'
import type { BoardHandle } from '../../drivers/board/types.ts'
import { HardwareError } from '../../drivers/errors.ts'
import { grantOf } from '../../drivers/owner/backend.ts'
import { answer, serveBroker } from '../../drivers/owner/broker.ts'
import { SimBackend } from '../../drivers/owner/sim/backend.ts'
import { World } from '../../drivers/owner/sim/world.ts'
import type { Grant, Level } from '../../drivers/program/handle.ts'
import { periodNs } from '../../drivers/program/servo.ts'
import { inRig, levelOf, pull, pwmRecord } from '../kernel/guest.ts'
import { type Host, startHost } from './host.ts'
import { type Command, performer } from './performer.ts'

export interface Rig {
  host: Pick<Host, 'send' | 'call' | 'end'>
  /** Current value at the owner's side. */
  observe(handle: string): number
  setInput(level: Level): void
  /** The owner gives a fence; what `stale` says of the last one is for rigs with `fences`. */
  allow(fence: number): void
  end(): Promise<void>
}

export interface RigKind {
  name: string
  /** Why this machine cannot run it. */
  absent?: string
  fences: boolean
  i2c: boolean
  /** true: there is a servo `boom` with a slew limit. */
  slew: boolean
  start(program: string, folder: string): Promise<Rig>
}

export const FIRST_FD = 4
export const PERIOD = periodNs(50)
const GRIP = { minUs: 1000, maxUs: 2000, degrees: [-45, 45], initial: 0 }
export const BOOM_SLEW = 450
/** Degrees of the grip for a pulse in ns. */
const angle = (pulseNs: number) => (pulseNs - 1_500_000) / (1_000_000 / 90)

export function board(via: 'inherit' | 'broker'): Record<string, BoardHandle> {
  const text = JSON.stringify({
    model: 'sim',
    handles: {
      led: { kind: 'output', line: 17, via },
      button: { kind: 'input', line: 27, via },
      arm: { kind: 'pwm', line: 18, frequencyHz: 50, min: 0.02, max: 0.9, initial: 0.05, via },
      grip: { kind: 'servo', line: 19, ...GRIP, via },
      boom: { kind: 'servo', line: 12, ...GRIP, slew: BOOM_SLEW, via },
      imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
    },
  })
  return parseBoard(text, 'board.json').handles
}

function simulated(name: string, via: 'inherit' | 'broker'): RigKind {
  return {
    name,
    fences: true,
    i2c: true,
    slew: true,
    async start(program, folder) {
      const backend = new SimBackend({ world: new World(), folder: join(folder, 'handles') })
      const fds: number[] = []
      const owned = Object.entries(board(via)).map(([handle, entry], index) => backend.open(handle, index + 1, entry))
      const grants = owned.map((handle): Grant => {
        const source = handle.grant()
        if (source.via === 'inherit') fds.push(source.fd)
        return grantOf(handle, source, FIRST_FD + fds.length - 1)
      })
      const host = await startHost(program, grants, fds)
      let fence = 0
      const { end: stop } = serveBroker(host.broker, new Map(owned.map((handle) => [handle.id, handle])), () => fence)
      return {
        host,
        observe: (handle) => owned.find(({ name }) => name === handle)?.value() ?? Number.NaN,
        setInput: (level) => backend.pull('button', level),
        allow(next) {
          fence = next
          backend.advance(next, Object.keys(board(via)))
        },
        async end() {
          await host.end()
          stop()
          backend.close()
        },
      }
    },
  }
}

/** Handles as in medulla/test: no process, no descriptor, no socket. */
const inProcess: RigKind = {
  name: 'in the process of a test',
  fences: true,
  i2c: true,
  slew: true,
  async start() {
    const backend = new SimBackend({ world: new World(), folder: null })
    const owned = Object.entries(board('inherit')).map(([name, entry], index) => backend.open(name, index + 1, entry))
    const granted = new Map(owned.map((handle) => [handle.id, handle]))
    let fence = 0
    const perform = performer(() => ({
      request(id, op, given, payload) {
        const result = answer({ id, op, fence: given, payload }, granted, fence)
        if (result instanceof HardwareError) throw result
        return result
      },
    }))
    const send = async (command: Record<string, unknown>) => perform(command as Command)
    await send({ op: 'adopt', grants: owned.map((handle) => grantOf(handle, handle.grant())), brokerFd: 0 })
    return {
      host: {
        send,
        call: (handle, method, ...args) => send({ op: 'call', handle, method, args }),
        end: async () => {},
      },
      observe: (handle) => owned.find(({ name }) => name === handle)?.value() ?? Number.NaN,
      setInput: (level) => backend.pull('button', level),
      allow(next) {
        fence = next
        backend.advance(next, Object.keys(board('inherit')))
      },
      async end() {
        backend.close()
      },
    }
  },
}

function servo(name: string, id: number): Grant {
  const fd = FIRST_FD + id - 1
  const pulsesNs = [1_000_000, 2_000_000] as const
  return { name, id, kind: 'servo', via: 'inherit', fd, encoding: 'text', periodNs: PERIOD, pulsesNs, min: -45, max: 45, value: 0 } // biome-ignore format: one line
}

/** Plain files in place of the kernel's descriptors. */
const text: RigKind = {
  name: 'inherited text',
  fences: false,
  i2c: false,
  slew: true,
  async start(program, folder) {
    const paths = ['led', 'button', 'arm', 'grip', 'boom'].map((name) => join(folder, name))
    const fds = paths.map((path) => openSync(path, 'w+'))
    const [led, button, arm, grip, boom] = fds as [number, number, number, number, number]
    writeSync(led, '0')
    writeSync(button, '0')
    writeSync(arm, `${0.05 * PERIOD}\n`)
    for (const servo of [grip, boom]) writeSync(servo, '1500000\n')
    const grants: Grant[] = [
      { name: 'led', id: 1, kind: 'output', via: 'inherit', fd: FIRST_FD, encoding: 'text', value: 0 },
      { name: 'button', id: 2, kind: 'input', via: 'inherit', fd: FIRST_FD + 1, encoding: 'level', value: 0 },
      {
        name: 'arm',
        id: 3,
        kind: 'pwm',
        via: 'inherit',
        fd: FIRST_FD + 2,
        encoding: 'text',
        periodNs: PERIOD,
        min: 0.02,
        max: 0.9,
        value: 0.05,
      },
      servo('grip', 4),
      { ...servo('boom', 5), slew: BOOM_SLEW },
    ]
    const host = await startHost(program, grants, fds)
    return {
      host,
      observe(handle) {
        const number = Number.parseInt(readFileSync(join(folder, handle), 'utf8'), 10)
        if (handle === 'grip' || handle === 'boom') return angle(number)
        return handle === 'arm' ? number / PERIOD : number
      },
      setInput: (level) => void writeSync(button, String(level), 0),
      allow() {},
      async end() {
        await host.end()
        for (const fd of fds) closeSync(fd)
      },
    }
  },
}

const LED = 17
const BUTTON = 27

/** Lines and a PWM channel of a real kernel. */
function kernel(name: string, driver: 'cdev' | 'sysfs', via: 'inherit' | 'broker'): RigKind {
  return {
    name,
    ...(inRig ? {} : { absent: 'needs the kernel of test/kernel/rig.mjs' }),
    fences: via === 'broker',
    i2c: false,
    slew: false,
    async start(program) {
      const { LinuxBackend } = await import('../../drivers/owner/linux/backend.ts')
      const text = JSON.stringify({
        model: 'pi4',
        handles: {
          led: { kind: 'output', line: LED, driver, via },
          button: { kind: 'input', line: BUTTON, driver, via },
          arm: { kind: 'pwm', line: 18, frequencyHz: 50, min: 0.02, max: 0.9, initial: 0.05, via },
          grip: { kind: 'servo', line: 19, ...GRIP, via },
        },
      })
      const board = parseBoard(text, 'board.json')
      const backend = new LinuxBackend({ board })
      const fds: number[] = []
      const owned = Object.entries(board.handles).map(([handle, entry], index) =>
        backend.open(handle, index + 1, entry),
      )
      const grants = owned.map((handle): Grant => {
        const source = handle.grant()
        if (source.via === 'inherit') fds.push(source.fd)
        return grantOf(handle, source, FIRST_FD + fds.length - 1)
      })
      const host = await startHost(program, grants, fds)
      let fence = 0
      const { end: stop } = serveBroker(host.broker, new Map(owned.map((handle) => [handle.id, handle])), () => fence)
      return {
        host,
        observe(handle) {
          if (handle === 'led') return levelOf(LED)
          return handle === 'grip' ? angle(pwmRecord(1).dutyNs) : pwmRecord(0).dutyNs / PERIOD
        },
        setInput: (level) => pull(BUTTON, level),
        allow(next) {
          fence = next
          backend.advance(next, Object.keys(board.handles))
        },
        async end() {
          await host.end()
          stop()
          backend.close()
        },
      }
    },
  }
}

/** epoll, which comes with onoff, opens one descriptor for the life of the process. */
if (inRig) createRequire(import.meta.url)('onoff')

export const RIGS: RigKind[] = [
  simulated('inherited records', 'inherit'),
  simulated('brokered', 'broker'),
  inProcess,
  text,
  kernel('lines of a kernel', 'cdev', 'inherit'),
  kernel('brokered lines of a kernel', 'cdev', 'broker'),
  kernel('lines of a kernel, through sysfs', 'sysfs', 'inherit'),
]
