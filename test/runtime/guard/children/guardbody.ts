/**
 * A minimal body: handles on plain files, programs that write them without pause, and the real Guard. It prints its state
 * in one line, and ends in order at the command `end`.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { BoardHandle } from '../../../../drivers/board/types.ts'
import type { KeptHandle } from '../../../../drivers/owner/backend.ts'
import { type GuardedHandle, GuardLink } from '../../../../runtime/body/hardware/guard.ts'
import { recover } from '../../../../runtime/body/hardware/recovery.ts'

export interface BodyOrder {
  folder: string
  about: unknown
  handles: Record<string, BoardHandle>
  /** name to path */
  files: Record<string, string>
  cgroup: string | null
  /** Number of programs; each has every handle. */
  programs: number
  /** The programs do not lead process groups, so that the guard cannot end them. */
  loose?: boolean
  /** Name of the emergency stop's input, whose level is 1. */
  stopInput?: string
  /** Path of the latch file. */
  latch?: string
  /** Time in ms after which the guard treats this body as dead. */
  bodyMs?: number
  /** `heir`: dies before it has its own guard. */
  role: 'body' | 'heir'
}

/** Writes its descriptors from 3 on, for ever. */
const PROGRAM = `
  const { writeSync } = require('node:fs')
  const fds = Array.from({ length: Number(process.argv[1]) }, (_, i) => i + 3)
  process.stdout.write('.')
  for (;;) for (const fd of fds) writeSync(fd, '7', 0)
`

async function main(order: BodyOrder): Promise<void> {
  const { folder, about, handles, files, cgroup } = order
  const note = (level: string, text: string) => say({ note: `${level}: ${text}` })
  const recovered = await recover({ folder, about, handles, note })
  const opened: string[] = []
  const held = Object.entries(handles).map(([name, entry], i): GuardedHandle => {
    const kept = recovered?.kept.get(name)
    if (kept !== undefined) return { name, id: i + 1, entry, kept }
    opened.push(name)
    return { name, id: i + 1, entry, kept: { fds: [openSync(files[name] ?? '', 'r+')], fence: 1 } satisfies KeptHandle }
  })
  const left = { rescue: recovered?.rescue ?? null, latch: recovered?.latch ?? null }
  const report = { opened, adopted: [...(recovered?.kept ?? [])], ...left }
  if (order.role === 'heir') return say({ ...report, guard: null, programs: [] })
  const { stopInput, latch, bodyMs = 0 } = order
  const guard = await GuardLink.start({
    ...{ folder, about, handles: held, cgroup, realtime: 0, note },
    stopInput: stopInput === undefined ? null : { name: stopInput, level: 1, encoding: 'level' },
    latchFd: latch === undefined ? null : openSync(latch, 'rs+'),
    bodyMs,
    stopped: (stop) => say({ stopped: stop.reason }),
  })
  if (bodyMs > 0) guard.watchBody()
  await recovered?.done()
  const programs: number[] = []
  const fds = held.filter(({ entry }) => entry.kind !== 'input').flatMap(({ kept }) => kept.fds)
  for (let i = 0; i < order.programs; i++) {
    const join = cgroup === null ? [] : ['sh', '-c', `echo $$ > ${cgroup}/cgroup.procs; exec "$@"`, 'sh']
    const [command = '', ...args] = [...join, process.execPath, '-e', PROGRAM, String(fds.length)]
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit', ...fds], detached: order.loose !== true })
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    programs.push(child.pid as number)
  }
  guard.programs(programs)
  guard.keep(held.map(({ name, kept }) => ({ name, kept: { ...kept, fence: 7, seqno: 41 } })))
  say({ ...report, guard: guard.pid, programs })
  createInterface({ input: process.stdin }).on('line', async (line) => {
    if (line === 'guard') return say({ ...report, guard: guard.pid, programs })
    if (line === 'stop') return say({ done: await guard.stop('an operator') })
    if (line === 'release') return say({ done: await guard.release() })
    if (line === 'hang') for (;;);
    await guard.end()
    for (const { kept } of held) for (const fd of kept.fds) closeSync(fd)
    process.exit()
  })
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

// keeps the process alive until `end`, or until it is killed
setInterval(() => {}, 60_000)
main(JSON.parse(process.argv[2] ?? '{}') as BodyOrder).catch((error: unknown) => {
  say({ note: `failed: ${error instanceof Error ? error.stack : String(error)}` })
  process.exit(1)
})
