/**
 * Plays the next body: adopts the lines that its parent kept open, at the descriptors from 3 on, does the given steps, and
 * prints what it read.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { LinuxBackend } from '../../../drivers/owner/linux/backend.ts'

const { board, handles, driveLed, listenMs } = JSON.parse(readFileSync(0, 'utf8'))
const backend = new LinuxBackend({ board })
const edges: string[] = []
const owned = handles.map(({ name, id, entry, kept }: never) => backend.adopt(name, id, entry, kept))
for (const handle of owned) {
  handle.onEdge(({ level, seqno }: { level: number; seqno: number }) => edges.push(`${level}#${seqno}`))
}
const values = owned.map((handle: { value(): number }) => handle.value())
process.stdout.write('ready\n')
if (driveLed !== undefined) owned[0].drive(driveLed, 100)
await sleep(listenMs)
const infos = handles.map(({ name }: { name: string }) => backend.info(name))
process.stdout.write(`${JSON.stringify({ values, edges, infos })}\n`)
// ends like a killed body, without closing anything
process.kill(process.pid, 'SIGKILL')
