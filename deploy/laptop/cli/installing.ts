/** Shows what `install`, `uninstall` and `doctor --fix` are about to change, asks where a person has to agree, and does it. */
import { createInterface } from 'node:readline'
import type { Applied, Change, InstallPlan, InstallStep } from '../../shared/install.ts'
import type { App } from './app.ts'
import { diffLines } from './difflines.ts'
import { askRuntime } from './runtimebin.ts'

const WORDS: Readonly<Record<Change, string>> = { make: 'made', change: 'changed', remove: 'removed', keep: 'kept' }

export interface Installed extends Applied {
  readonly plan: InstallPlan
}

/**
 * `yes`: the person has agreed already. `silent`: nobody is asked, and steps that need consent are left out. Throws as the
 * runtime does.
 */
export async function carryOut(
  app: App,
  command: 'install' | 'uninstall',
  args: readonly string[],
  { yes, silent = false }: { yes: boolean; silent?: boolean },
): Promise<Installed> {
  const plan = (await askRuntime([command, 'plan', ...args])) as InstallPlan
  const asked = plan.steps.filter(({ consent, change }) => consent && change !== 'keep')
  for (const step of asked) show(app, step)
  const agreed = asked.length === 0 || yes || (!silent && (await confirm(app, 'Write these changes?')))
  const agreement = agreed ? ['--agreed', plan.agreement] : []
  const done = (await askRuntime([command, 'apply', ...args, ...agreement])) as Applied
  report(app, plan, done)
  return { ...done, plan }
}

function show({ term }: App, { path, what, before, after }: InstallStep): void {
  term.line(`${term.paint('bold', path)}  ${what}`)
  for (const line of diffLines(before ?? '', after ?? '')) {
    const color = line.startsWith('+') ? 'green' : line.startsWith('-') ? 'red' : 'dim'
    term.line(`  ${term.paint(color, line)}`)
  }
  term.line()
}

function report({ term }: App, { steps }: InstallPlan, { applied, skipped }: Applied): void {
  const what = (path: string) => steps.find((step) => step.path === path)?.what ?? ''
  for (const { path, change } of applied) {
    term.event({ event: 'step', path, change })
    term.line(`${WORDS[change].padEnd(8)} ${path}  ${term.paint('dim', what(path))}`)
  }
  for (const path of skipped) {
    term.event({ event: 'step', path, change: 'keep', skipped: true })
    term.line(`${'not yet'.padEnd(8)} ${path}  ${term.paint('dim', what(path))}`)
  }
  if (applied.length + skipped.length === 0) term.line('nothing to change: everything is as it should be')
}

/** False as well when nobody can be asked. */
export async function confirm({ term }: App, question: string): Promise<boolean> {
  if (term.json || process.stdin.isTTY !== true || !term.isRead) return false
  const input = createInterface({ input: process.stdin, output: process.stderr })
  const answer = await new Promise<string>((resolve) => {
    input.once('close', () => resolve(''))
    input.question(`${question} [y/N] `, resolve)
  })
  input.close()
  return /^y(?:es)?$/i.test(answer.trim())
}
