import { expect, onTestFinished, test } from 'vitest'
import {
  BoundedWorker,
  type BoundedWorkerOptions,
  type WorkerFailure,
} from '../../../runtime/plumbing/boundedworker.ts'
import { SCALE } from '../../e2e/eventually.ts'

class Failed extends Error {
  readonly failure: WorkerFailure

  constructor(failure: WorkerFailure) {
    super(failure.why)
    this.failure = failure
  }
}

/** `script` handles `job`, a string, and may post messages to `parentPort`. */
function boundedWorker(script: string, options: Partial<BoundedWorkerOptions> = {}): BoundedWorker<string> {
  const head = `import { parentPort, workerData } from 'node:worker_threads'`
  const source = `${head}\nlet jobs = 0\nparentPort.on('message', (job) => { jobs++; ${script} })`
  const worker = new BoundedWorker<string>({
    script: new URL(`data:text/javascript,${encodeURIComponent(source)}`),
    name: 'test',
    limits: { maxOldGenerationSizeMb: 32, maxYoungGenerationSizeMb: 16 },
    deadlineMs: 30_000 * SCALE,
    failed: (failure) => new Failed(failure),
    ...options,
  })
  onTestFinished(() => worker.close())
  return worker
}

const same = (message: string): string => message

test('jobs are answered by one worker, in order and one at a time', async () => {
  const worker = boundedWorker(
    `setTimeout(() => { parentPort.postMessage(job + jobs + workerData) }, job === 'a' ? 50 : 0)`,
    { workerData: '!' },
  )
  const ended: string[] = []
  await Promise.all(
    ['a', 'b', 'c'].map(async (job) => {
      ended.push(await worker.run(job, same))
    }),
  )
  // were the second job sent before the first is answered, the first answer would have another count
  expect(ended).toEqual(['a1!', 'b2!', 'c3!'])
})

test.each<[string, string, object]>([
  ['spins', 'for (;;);', { why: 'late' }],
  ['hoards', 'const all = []; for (;;) all.push(Array.from({ length: 1000 }, () => ({ jobs })))', { why: 'memory' }],
  ['throws', `throw new Error('a fault')`, { why: 'error', cause: { message: 'a fault' } }],
  ['exits', 'process.exit(3)', { why: 'exit', code: 3 }],
])('a worker that %s costs its job; the next job gets a new worker', async (name, fault, failure) => {
  // the deadline of the second job includes the start of its worker
  const deadlineMs = (name === 'spins' ? 3000 : 30_000) * SCALE
  const worker = boundedWorker(`if (job === 'bad') { ${fault} } parentPort.postMessage(job + jobs)`, { deadlineMs })
  const [bad, good] = await Promise.allSettled([worker.run('bad', same), worker.run('good', same)])
  expect(bad).toMatchObject({ status: 'rejected', reason: { failure } })
  expect(good).toEqual({ status: 'fulfilled', value: 'good1' })
})

test('a job goes on until a message gives a result, and what reading a message throws ends that job alone', async () => {
  const worker = boundedWorker(`parentPort.postMessage(job)`)
  const heard: string[] = []
  const result = await worker.run('one', (message, post) => {
    heard.push(message)
    if (message === 'one') post('two')
    return message === 'one' ? undefined : message.length
  })
  expect([result, heard]).toEqual([3, ['one', 'two']])
  const refused = worker.run('three', () => {
    throw new Error('refused')
  })
  await expect(refused).rejects.toThrow('refused')
  expect(await worker.run('four', same)).toBe('four')
})

test('a request that cannot be sent is rejected, and the next job is answered', async () => {
  const worker = boundedWorker(`parentPort.postMessage(job)`)
  const running = worker.run('first', same)
  const unsendable = worker.run(() => {}, same)
  const next = worker.run('next', same)
  await expect(unsendable).rejects.toMatchObject({ name: 'DataCloneError' })
  expect(await Promise.all([running, next])).toEqual(['first', 'next'])
})

test('a worker that cannot start fails each job', async () => {
  const worker = boundedWorker('', { script: new URL('file:///nonexistent/worker.js') })
  for (let job = 0; job < 2; job++) {
    await expect(worker.run('job', same)).rejects.toMatchObject({ failure: { why: 'error' } })
  }
})

test('closing fails the running job, those that wait, and later ones', async () => {
  const worker = boundedWorker('')
  const results = Promise.allSettled([worker.run('runs', same), worker.run('waits', same)])
  await worker.close()
  const closed = { status: 'rejected', reason: { failure: { why: 'closed' } } }
  expect(await results).toMatchObject([closed, closed])
  await expect(worker.run('late', same)).rejects.toMatchObject({ failure: { why: 'closed' } })
  await worker.close()
})
