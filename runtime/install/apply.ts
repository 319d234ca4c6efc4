/** Carries out the steps of a plan, each whole or not at all. */
import { dirname } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { Applied, InstallPlan, InstallStep } from '../../deploy/shared/install.ts'
import { readOperator } from '../store/operatorfile.ts'
import { makeFirstRecovery } from '../store/operatorkeys.ts'
import { addOperator, loadOperators } from '../store/operators.ts'
import { HOME, OWN_FOLDERS } from './paths.ts'
import { Tree } from './tree.ts'

export interface ApplyOptions {
  /** `agreement` of the plan that a person has seen; null: nobody was asked. */
  readonly agreed: string | null
  readonly operator?: string
  readonly operatorName?: string
}

/**
 * The steps are done in order, so what starts the robot comes last. Throws Refusal `not-written`, if possible before anything
 * was changed, and `stale-order` when a file has changed since the plan was shown.
 */
export async function apply({ root, steps, agreement }: InstallPlan, options: ApplyOptions): Promise<Applied> {
  if (options.agreed !== null && options.agreed !== agreement) {
    throw new Refusal(
      'stale-order',
      'a file was changed since its new text was shown; nothing was changed',
      'give the command again',
    )
  }
  const tree = new Tree(root)
  for (const { path } of steps) tree.clearTemporary(path)
  const due = steps.filter(({ change }) => change !== 'keep')
  const agreed = due.filter(({ consent }) => !consent || options.agreed !== null)
  for (const { path, change } of agreed) if (change !== 'remove') tree.checkWritable(path)
  let recovery: string | null = null
  for (const step of agreed) {
    if (step.kind === 'operator') recovery = await letIn(tree, options)
    else perform(tree, step)
  }
  return {
    applied: agreed.map(({ path, change }) => ({ path, change })),
    skipped: due.filter((step) => !agreed.includes(step)).map(({ path }) => path),
    ...(recovery === null ? {} : { recovery }),
  }
}

function perform(tree: Tree, step: InstallStep): void {
  const { kind, path, change, after, mode } = step
  if (change === 'remove') return kind === 'folder' ? tree.removeAll(path) : tree.remove(path, OWN_FOLDERS)
  if (kind === 'folder') return tree.makeFolder(path, mode ?? 0o755)
  if (after === null) throw new Error(`${path}: there is nothing to write`)
  if (kind === 'link') return tree.makeLink(path, after)
  // A folder of the robot's home is closed to others, one of /etc is not.
  if (dirname(path) === HOME) tree.makeFolder(HOME, 0o700)
  tree.write(path, after, mode)
}

/** Returns the text of the recovery key of a robot that had no owner before. */
async function letIn(tree: Tree, { operator, operatorName }: ApplyOptions): Promise<string | null> {
  if (operator === undefined) throw new Error('the plan has an operator, and there is none')
  tree.makeFolder(HOME, 0o700)
  const home = { dir: tree.at(HOME) }
  const isFirst = (await loadOperators(home)).all().length === 0
  await addOperator(home, await readOperator(operator), 'owner', operatorName)
  return isFirst ? makeFirstRecovery(home) : null
}
