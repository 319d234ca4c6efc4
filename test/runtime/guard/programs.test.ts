import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { expect, onTestFinished, test } from 'vitest'
import { GuardedPrograms } from '../../../runtime/guard/programs.ts'

/** A program that leads its process group, runs without pause in two threads, and has memory that takes time to give back. */
const BUSY = `
const { Worker } = require('node:worker_threads')
new Worker('for (;;);', { eval: true })
globalThis.memory = Buffer.alloc(200e6, 1)
process.stdout.write('ready')
for (;;);`

async function startBusy(): Promise<ChildProcess & { pid: number }> {
  const child = spawn(process.execPath, ['-e', BUSY], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child as ChildProcess & { pid: number }
}

/** Threads of a process that can still run their code, by their flags and states in /proc. */
function running(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`).filter((task) => {
      const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')
      const [state = '', ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      return !'ZX'.includes(state) && (Number(fields[5]) & 4) === 0
    })
  } catch {
    return []
  }
}

test('HANDLES 14.2: without a control group a killed program counts as stopped when no thread of it runs its code again', async () => {
  for (let round = 0; round < 5; round++) {
    const child = await startBusy()
    // Time for the threads of the program to get a CPU, in which alone they can end.
    const programs = new GuardedPrograms(null, 20)
    programs.know([child.pid])
    expect(running(child.pid).length).toBeGreaterThan(1)
    const from = performance.now()
    const stopped = programs.stop()
    const left = running(child.pid)
    const stopMs = performance.now() - from
    expect({ stopped, left }).toEqual({ stopped: true, left: [] })
    expect(programs.end()).toBe(true)
    console.log(`stopped after ${stopMs.toFixed(1)} ms, gone after ${(performance.now() - from).toFixed(1)} ms`)
  }
})
