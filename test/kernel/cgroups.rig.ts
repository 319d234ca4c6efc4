/** Control groups of a kernel that has nothing else in them: a host may not let its own be written. */
import '../runtime/cgroups.test.ts'
