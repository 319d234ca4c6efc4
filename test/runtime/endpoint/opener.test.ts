import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { BundleOpener } from '../../../runtime/endpoint/opener.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { buildEndpoint, built } from './bodypeer.ts'

/** What a thread does that a bundle has got hold of. */
const HOSTILE = {
  spins: `for (;;);`,
  hoards: `const all = []; for (;;) all.push(new Array(1000).fill({}).map(() => ({ x: Math.random() })))`,
  exits: `process.exit(0)`,
  throws: `throw new Error('no')`,
}

beforeAll(buildEndpoint)
afterAll(() => rm(built, { recursive: true, force: true }))

/** Ends the thread that spins after a tenth of its 30 s; the others end by themselves, and a new one needs time to start. */
async function openerWith(name: string, script: string): Promise<BundleOpener> {
  const folder = join(built, name, 'runtime/endpoint')
  await mkdir(folder, { recursive: true })
  await copyFile(join(built, 'runtime/endpoint/opener.js'), join(folder, 'opener.js'))
  const head = `import { parentPort, workerData } from 'node:worker_threads'\n`
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(join(folder, 'opener-thread.js'), `${head}parentPort.on('message', (job) => { ${script} })`)
  const module = (await import(pathToFileURL(join(folder, 'opener.js')).href)) as { BundleOpener: typeof BundleOpener }
  return new module.BundleOpener(['AGE-SECRET-KEY-1'], name === 'spins' ? 0.1 * SCALE : SCALE)
}

test.each(Object.entries(HOSTILE))(
  'a thread that %s costs a refusal; the next bundle gets a new thread',
  async (name, script) => {
    const once = `if (job.operators[0] === 'good') parentPort.postMessage({ inner: job.bundle, digest: 'd', signer: 's' }); else { ${script} }`
    const opener = await openerWith(name, once)
    const bad = opener.open(new Uint8Array(10), ['bad'])
    const good = opener.open(new Uint8Array([1, 2, 3]), ['good']) // waits behind it
    await expect(bad).rejects.toMatchObject({ code: 'bad-bundle' })
    expect(await good).toEqual({ inner: new Uint8Array([1, 2, 3]), digest: 'd', signer: 's' })
    await opener.close()
  },
)

test('the bytes move to the thread: the endpoint keeps no copy', async () => {
  const opener = await openerWith('moves', `parentPort.postMessage({ inner: job.bundle, digest: 'd', signer: 's' })`)
  const bundle = new Uint8Array(1000)
  await opener.open(bundle, [])
  expect(bundle.length).toBe(0)
  await opener.close()
})
