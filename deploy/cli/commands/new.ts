import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { NAME_PATTERN } from '../../api.ts'
import { Refusal } from '../../errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { ROBOTS } from '../paths.ts'

const TEMPLATE = join(ROBOTS, 'template')

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('Makes a folder with a small program that blinks a led, ready to push.')
    .argument('<name>', 'name of the program, and of the folder unless it is a path')
    .addHelpText('after', example('medulla new blinky', 'medulla push blinky -d sim'))
    .action((path: string) => run(() => make(app, path)))
}

async function make(app: App, path: string): Promise<number> {
  const folder = resolve(path)
  const name = basename(folder)
  if (!NAME_PATTERN.test(name)) {
    throw new Refusal('usage', `a program is called like arm-1 (a-z, 0-9, . _ -), got ${JSON.stringify(name)}`)
  }
  await makeProgram(folder, name)
  app.term.event({ event: 'made', folder, name })
  app.term.line(`made ${folder}`)
  app.term.hint(`medulla sim   then, in another terminal:   medulla push ${shellWord(path)}`)
  return 0
}

/** Throws Refusal when the folder is there and not empty. */
export async function makeProgram(folder: string, name: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  if ((await readdir(folder)).length > 0) throw new Refusal('usage', `${folder} is not empty`, 'choose another name')
  for (const file of await readdir(TEMPLATE)) {
    const text = await readFile(join(TEMPLATE, file), 'utf8')
    await writeFile(join(folder, file), text.replaceAll('template', name), { flag: 'wx' })
  }
}
