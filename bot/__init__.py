"""The serving process: takes tickets in, masks them, asks the model, records what people do. Never imports training."""
