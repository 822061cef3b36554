/** How often the page asks, and how much it shows. */

/** From one answer to the next question, while the page is visible. */
export const POLL_EVERY_MS = 4000;

/** An answer that takes longer is not waited for. */
export const ANSWER_TIMEOUT_MS = 10_000;

/** For the tree, at most: a large one costs the server more than numbers do. */
export const TREE_EVERY_MS = 15_000;

/** Nodes right below one node. */
export const NODES_MAX = 100;

/** Requests that ended last. */
export const REQUESTS_MAX = 20;

/** Prefixes or documents that spare most. */
export const SAVERS_MAX = 10;

/** Events of the log. */
export const LINES_MAX = 200;
