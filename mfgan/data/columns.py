"""The names of the columns that cross a border between two rooms; nowhere else are they spelled."""

USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP = "timestamp"  # int64 milliseconds since 1970-01-01 UTC
ORDER = "order"  # a user's interactions sort by it where there is no timestamp
EVENT = "event"
RATING = "rating"
DISPLAY_ID = "display_id"
POSITION = "position"
CLICK = "click"
SPLIT = "split"
PROPENSITY = "propensity"  # probability with which the logging policy showed the item
ROW = "row"  # 1-based line or row of the source, for messages

USER_IDX = "user_idx"
ITEM_IDX = "item_idx"

TITLE = "title"

RANK = "rank"
LOG_PROBABILITY = "log_probability"
NEXT_ITEM_ID = "next_item_id"
