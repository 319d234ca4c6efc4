/** A verifier worker with the fault that a job names. */
import { parentPort } from 'node:worker_threads'

parentPort?.on('message', ({ stagedFile }: { stagedFile: string }) => {
  if (stagedFile === 'throws') throw new Error('a fault')
  if (stagedFile === 'exits') process.exit(3)
  if (stagedFile === 'hangs') for (;;);
  if (stagedFile === 'eats memory') {
    const eaten: number[][] = []
    for (;;) eaten.push(Array.from({ length: 100_000 }, (_, n) => n + eaten.length))
  }
  parentPort?.postMessage({ ok: true, value: {} })
})
