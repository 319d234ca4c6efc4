/** Runs cgroups.test.ts in the rig, as a host may not allow writing its control groups. */
import '../runtime/body/sandbox/cgroups.test.ts'
