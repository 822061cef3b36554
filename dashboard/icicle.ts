/**
 * Where each node of the radix tree stands in an icicle: a row a level, as wide as its share of the chunks of the row
 * above, children below their parent. Knows no DOM.
 */

/** A node of `GET /v1/cache/tree`. */
export interface TreeNode {
  readonly place: string;
  readonly start: number;
  readonly tokens: number;
  readonly chunks: number;
  readonly chunks_host: number;
  readonly chunks_disk: number;
  readonly bytes: number;
  readonly children: number;
  readonly chunks_below: number;
  readonly text: string;
}

/** Nodes right below a place: the largest of `total`. */
export interface Nodes {
  readonly data: readonly TreeNode[];
  readonly total: number;
}

/** Open places with what is below them; that of the roots is ''. */
export type OpenPlaces = ReadonlyMap<string, Nodes>;

/** A node as it is drawn: `x` and `width` from 0 to 1. */
export interface Box {
  readonly node: TreeNode;
  readonly parent: string;
  /** From 1. */
  readonly level: number;
  /** Among its siblings, from 1; those that were not fetched count as siblings. */
  readonly position: number;
  readonly siblings: number;
  readonly isOpen: boolean;
  readonly x: number;
  readonly width: number;
}

function weightOf({ chunks, chunks_below: below }: TreeNode): number {
  return Math.max(1, chunks + below);
}

/** Whether `place` is `ancestor` or stands below it. */
export function isWithin(place: string, ancestor: string): boolean {
  return ancestor === '' || place === ancestor || place.startsWith(`${ancestor}.`);
}

/** The boxes of all open nodes, each before its children. Nodes on the way to `widened` take the whole width alone. */
export function layOut(open: OpenPlaces, widened = ''): Box[] {
  const below = (place: string, level: number, at: { x: number; width: number }): Box[] => {
    const nodes = open.get(place);
    if (nodes === undefined) return [];
    const chosen = nodes.data.filter(({ place: own }) => widened !== '' && isWithin(widened, own));
    const isAlone = chosen.length > 0;
    const siblings = isAlone ? chosen : nodes.data;
    const all = siblings.reduce((sum, node) => sum + weightOf(node), 0);
    let { x } = at;
    return siblings.flatMap((node) => {
      const width = (at.width * weightOf(node)) / all;
      const position = nodes.data.indexOf(node) + 1;
      const isOpen = open.has(node.place);
      const box = { node, parent: place, level, position, siblings: nodes.total, isOpen, x, width };
      // What of a node stands in it and not below is left free below it.
      const inner = isAlone ? width : (width * node.chunks_below) / weightOf(node);
      const rest = below(node.place, level + 1, { x, width: inner });
      x += width;
      return [box, ...rest];
    });
  };
  return below('', 1, { x: 0, width: 1 });
}
