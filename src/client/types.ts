/**
 * What the control plane takes and answers, in the types of the very schemas that the server validates with. Only types:
 * neither this file nor zod is there at run time.
 */
import type { z } from 'zod';
import type * as cache from '../api/cache-answers.js';
import type * as documents from '../api/document-answers.js';
import type { batchedDocument, documentsQuery, storedDocument } from '../api/document-schema.js';
import type * as info from '../api/info-answers.js';
import type * as recent from '../api/recent-answers.js';
import type { recentQuery, topQuery } from '../api/recent-schema.js';
import type * as statistics from '../api/statistics-answers.js';
import type { seriesQuery, windowQuery } from '../api/statistics-schema.js';
import type * as steering from '../api/steering-schema.js';

type Of<Schema extends (limits: never) => z.ZodType> = z.input<ReturnType<Schema>>;

/** A prompt of a served model: `messages` or `prompt`. */
export type PromptQuestion = Of<typeof steering.lookupBody>;
export type WarmOrder = Of<typeof steering.warmBody>;
export type PinOrder = Of<typeof steering.pinBody>;
export type ClearQuery = Of<typeof steering.clearQuery>;
export type ExportOrder = Of<typeof steering.exportBody>;
export type ArchiveQuery = z.input<typeof steering.archiveQuery>;
export type SharedOrder = Of<typeof steering.sharedBody>;
export type HoldingsQuery = z.input<typeof steering.holdingsQuery>;
export type RequestsQuery = z.input<typeof recentQuery>;
export type TopQuery = z.input<typeof topQuery>;
export type TreeQuery = Of<typeof steering.treeQuery>;
export type EventsQuery = Of<typeof steering.eventsQuery>;
export type DocumentOrder = Of<typeof storedDocument>;
/** A document with its id. */
export type NamedDocumentOrder = Of<typeof batchedDocument>;
export type DocumentsQuery = z.input<typeof documentsQuery>;
export type WindowQuery = z.input<typeof windowQuery>;
export type HistoryQuery = z.input<typeof seriesQuery>;

export type CacheLookup = z.output<typeof cache.cacheLookup>;
export type CacheExplanation = z.output<typeof cache.cacheExplanation>;
export type CacheCleared = z.output<typeof cache.cacheCleared>;
export type CacheImport = z.output<typeof cache.cacheImport>;
export type SharedText = z.output<typeof cache.sharedText>;
export type SharedList = z.output<typeof cache.sharedList>;
export type SharedDeleted = z.output<typeof cache.sharedDeleted>;
export type TenantHoldings = z.output<typeof cache.tenantHoldings>;
export type RecentRequests = z.output<typeof recent.recentRequests>;
export type RequestDetails = z.output<typeof recent.requestDetails>;
export type TopSavers = z.output<typeof recent.topSavers>;
export type CacheEvent = z.output<typeof cache.cacheEvent>;
export type WarmJob = z.output<typeof cache.warmJob>;
export type Pin = z.output<typeof cache.pin>;
export type PinList = z.output<typeof cache.pinList>;
export type PinDeleted = z.output<typeof cache.pinDeleted>;
export type TreeNode = z.output<typeof cache.treeNode>;
export type TreePage = z.output<typeof cache.treePage>;
export type Document = z.output<typeof documents.storedDocumentAnswer>;
export type DocumentPage = z.output<typeof documents.documentPage>;
export type DocumentDeleted = z.output<typeof documents.documentDeleted>;
export type DocumentBatch = z.output<typeof documents.documentBatch>;
export type Model = z.output<typeof info.model>;
export type ModelPage = z.output<typeof info.modelPage>;
export type Live = z.output<typeof info.liveAnswer>;
export type Readiness = z.output<typeof info.readyAnswer> | z.output<typeof info.notReadyAnswer>;
export type ProcessStatistics = z.output<typeof statistics.processStatistics>;
export type WindowStatistics = z.output<typeof statistics.windowStatistics>;
export type StatisticsHistory = z.output<typeof statistics.statisticsHistory>;
