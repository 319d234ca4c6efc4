import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { Checkpoints } from '../../../../runtime/body/slot/checkpoints.ts'
import type { Running } from '../../../../runtime/body/slot/running.ts'
import { Outbox } from '../../../../runtime/sdk/statearea.ts'
import { eventually } from '../../../e2e/eventually.ts'

test('HANDOVER 9.1: a checkpoint that arrives while a slow disk writes the previous one is written after it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-checkpoints-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'outbox')
  writeFileSync(path, '')
  const fd = openSync(path, 'r+')
  onTestFinished(() => closeSync(fd))
  const outbox = new Outbox(fd)
  const kept: string[] = []
  let written = (): void => {}
  const saveCheckpoint = ({ bytes }: { bytes: Uint8Array }) =>
    new Promise<void>((resolve) => {
      kept.push(Buffer.from(bytes).toString())
      written = resolve
    })
  const checkpoints = new Checkpoints(
    { saveCheckpoint },
    () => true,
    () => {},
  )
  const manifest = { state: { version: 1 } }
  const child = { send() {}, options: { dir: { outbox: path } } }
  const running = { child, runnable: { program: 'counter', manifest }, startedAt: 0 } as unknown as Running
  const answer = (n: number, text: string) => {
    checkpoints.ask(running)
    const meta = { stateVersion: 1, encoding: 'json' as const, values: {}, seqnos: {}, schedule: [] }
    const { changed: _, ...snapshot } = outbox.write(Buffer.from(text), meta)
    void checkpoints.take(running, { t: 'checkpoint', n, snapshot, stateVersion: 1, encoding: 'json' })
  }
  answer(1, 'first')
  await eventually(() => kept.length === 1)
  answer(2, 'second')
  written()
  await eventually(() => kept.length === 2)
  expect(kept).toEqual(['first', 'second'])
  written()
})
