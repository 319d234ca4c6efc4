/**
 * A minimal body over real lines: the real backend, the real Guard, and one program that writes
 * every output as fast as it can. It prints its handles in one line.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { Board } from '../../../drivers/board/types.ts'
import { LinuxBackend } from '../../../drivers/owner/linux/backend.ts'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'
import { GPIO_V2_LINE_SET_VALUES_IOCTL, lineValues } from '../../../drivers/program/inherit/line.ts'
import { GuardLink } from '../../../runtime/body/hardware/guard.ts'
import { recover } from '../../../runtime/body/hardware/recovery.ts'

export interface LineOrder {
  folder: string
  board: string
  cgroup: string
}

async function main({ folder, board: text, cgroup }: LineOrder): Promise<void> {
  const board = parseBoard(text, 'board.json')
  const backend = new LinuxBackend({ board })
  const about = { model: board.model, chip: board.chip ?? null }
  const note = (level: string, text: string) => say({ note: `${level}: ${text}` })
  const recovered = await recover({ folder, about, handles: board.handles, note })
  const held = Object.entries(board.handles).map(([name, entry], i) => {
    const kept = recovered?.kept.get(name)
    return kept === undefined ? backend.open(name, i + 1, entry) : backend.adopt(name, i + 1, entry, kept)
  })
  const edges: { seqno: number; level: number }[] = []
  for (const handle of held) handle.onEdge(({ seqno, level }) => edges.push({ seqno, level }))
  const infos = () => held.map(({ name }) => backend.info(name)).filter((info) => info !== null)
  const handles = infos().map(({ name, id, kept }) => ({ name, id, kept, entry: board.handles[name] as Entry }))
  const unwatched = { stopInput: null, latchFd: null, bodyMs: 0, stopped: () => {} }
  const guard = await GuardLink.start({ folder, about, handles, cgroup, realtime: 0, note, ...unwatched })
  await recovered?.done()
  const opens = infos().reduce((sum, info) => sum + info.opens, 0)
  const outputs = handles.filter(({ entry }) => entry.kind === 'output').flatMap(({ kept }) => kept.fds)
  const join = ['sh', '-c', `echo $$ > ${cgroup}/cgroup.procs; exec "$@"`, 'sh']
  const [command = '', ...args] = [...join, process.execPath, process.argv[1] ?? '', 'program', String(outputs.length)]
  const program = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit', ...outputs], detached: true })
  await new Promise((resolve) => program.stdout?.once('data', resolve))
  const report = () => {
    const seqnos = Object.fromEntries(infos().map(({ name, kept }) => [name, kept.seqno ?? null]))
    guard.keep(infos())
    say({ opens, rescue: recovered?.rescue ?? null, guard: guard.pid, program: program.pid, edges, seqnos })
  }
  report()
  createInterface({ input: process.stdin }).on('line', async (line) => {
    if (line === 'report') return report()
    program.kill('SIGKILL')
    await guard.end()
    backend.close()
    process.exit()
  })
}

type Entry = Board['handles'][string]

function program(count: number): void {
  const system = loadSystem()
  const values = [lineValues(0), lineValues(1)] as const
  process.stdout.write('.')
  for (let i = 0; ; i++) {
    for (let fd = 3; fd < 3 + count; fd++) system.ioctl(fd, GPIO_V2_LINE_SET_VALUES_IOCTL, values[(i % 2) as 0 | 1])
  }
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

const [, , what = '', count = '0'] = process.argv
if (what === 'program') program(Number(count))
else {
  setInterval(() => {}, 60_000)
  main(JSON.parse(what) as LineOrder).catch((error: unknown) => {
    say({ note: `failed: ${error instanceof Error ? error.stack : String(error)}` })
    process.exit(1)
  })
}
