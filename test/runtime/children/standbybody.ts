/**
 * A body of the least kind: handles on plain files, programs that write them without pause, and the real Standby. It says
 * what it has in one line, and ends in good order when told `end`.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Kept } from '../../../drivers/backend.ts'
import type { BoardHandle } from '../../../drivers/board.ts'
import { recover } from '../../../runtime/body/recovery.ts'
import { Standby, type StandbyHandle } from '../../../runtime/body/standby.ts'

export interface BodyOrder {
  folder: string
  about: unknown
  handles: Record<string, BoardHandle>
  /** name to path */
  files: Record<string, string>
  cgroup: string | null
  /** Programs, each with every handle. */
  programs: number
  /** Not leaders of a group, so that the standby cannot end them. */
  loose?: boolean
  /** `heir`: dies before it has a standby of its own. */
  role: 'body' | 'heir'
}

/** Writes its descriptors from 3 on for ever. */
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
  const held = Object.entries(handles).map(([name, entry], i): StandbyHandle => {
    const kept = recovered?.kept.get(name)
    if (kept !== undefined) return { name, id: i + 1, entry, kept }
    opened.push(name)
    return { name, id: i + 1, entry, kept: { fds: [openSync(files[name] ?? '', 'r+')], fence: 1 } satisfies Kept }
  })
  const report = { opened, adopted: [...(recovered?.kept ?? [])], rescue: recovered?.rescue ?? null }
  if (order.role === 'heir') return say({ ...report, standby: null, programs: [] })
  const standby = await Standby.start({ folder, about, handles: held, cgroup, realtime: 0, note })
  recovered?.done()
  const programs: number[] = []
  const fds = held.flatMap(({ kept }) => kept.fds)
  for (let i = 0; i < order.programs; i++) {
    const join = cgroup === null ? [] : ['sh', '-c', `echo $$ > ${cgroup}/cgroup.procs; exec "$@"`, 'sh']
    const [command = '', ...args] = [...join, process.execPath, '-e', PROGRAM, String(fds.length)]
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit', ...fds], detached: order.loose !== true })
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    programs.push(child.pid as number)
  }
  standby.programs(programs)
  standby.keep(held.map(({ name, kept }) => ({ name, kept: { ...kept, fence: 7, seqno: 41 } })))
  say({ ...report, standby: standby.pid, programs })
  createInterface({ input: process.stdin }).on('line', async (line) => {
    if (line === 'standby') return say({ ...report, standby: standby.pid, programs })
    await standby.end()
    for (const { kept } of held) for (const fd of kept.fds) closeSync(fd)
    process.exit()
  })
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

// alive until it is told to end, or killed
setInterval(() => {}, 60_000)
main(JSON.parse(process.argv[2] ?? '{}') as BodyOrder).catch((error: unknown) => {
  say({ note: `failed: ${error instanceof Error ? error.stack : String(error)}` })
  process.exit(1)
})
